"use strict";

// The one thing that needs a script: only a script may talk to an authenticator. A form with data-passkey asks the
// server what to ask, lets the authenticator answer, and is then sent like any other form.

const toBytes = (text) => {
  const padded = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(padded), (letter) => letter.charCodeAt(0));
};

const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

const known = (credentials) => (credentials ?? []).map((each) => ({ ...each, id: toBytes(each.id) }));

async function create(options) {
  const made = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: toBytes(options.challenge),
      user: { ...options.user, id: toBytes(options.user.id) },
      excludeCredentials: known(options.excludeCredentials),
    },
  });
  return {
    clientDataJSON: toText(made.response.clientDataJSON),
    attestationObject: toText(made.response.attestationObject),
    credential: made,
  };
}

async function get(options) {
  const found = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: toBytes(options.challenge),
      allowCredentials: known(options.allowCredentials),
    },
  });
  const { userHandle } = found.response;
  return {
    clientDataJSON: toText(found.response.clientDataJSON),
    authenticatorData: toText(found.response.authenticatorData),
    signature: toText(found.response.signature),
    ...(userHandle ? { userHandle: toText(userHandle) } : {}),
    credential: found,
  };
}

async function answer(form) {
  const asked = await fetch(form.dataset.options, {
    method: "POST",
    headers: { "X-Form-Token": form.elements.form_token.value },
    redirect: "error",
  });
  if (!asked.ok) {
    throw new Error(
      asked.status === 429
        ? `There were too many attempts. Try again in ${asked.headers.get("Retry-After")} seconds.`
        : "That did not work. Reload the page and try again.",
    );
  }
  const options = await asked.json();
  const { credential, ...response } = await (form.dataset.passkey === "create" ? create(options) : get(options));
  return JSON.stringify({
    id: credential.id,
    rawId: toText(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: {},
  });
}

const inWords = (error) => {
  if (error.name === "NotAllowedError") return "The device did not answer, or it was cancelled. Try again.";
  if (error.name === "InvalidStateError") return "This device has a passkey of yours already.";
  if (error.name === "TypeError") return "The page is out of date, or the service cannot be reached. Reload the page.";
  return error.message;
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) {
    continue;
  }
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    const status = form.querySelector(".passkey-status");
    button.disabled = true;
    status.textContent = "";
    try {
      form.elements.answer.value = await answer(form);
      form.submit();
    } catch (error) {
      status.textContent = inWords(error);
      button.disabled = false;
      button.focus();
    }
  });
}
